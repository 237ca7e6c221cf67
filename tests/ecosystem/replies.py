"""What the scripted provider answers."""

from tokenwire_adapters.testing.provider import ScriptedReply

__all__ = ["LONG", "REPLIES"]

_TEXT = "Let me look. \u6771\u4eac "
_CALL = ("get_weather", {"city": "Oslo"})
_ANSWER = ScriptedReply(text="It rains in Oslo, 7 \u00b0C \u2014 e\u0301 \U0001f327\ufe0f.")

REPLIES: dict[str, tuple[ScriptedReply, ...]] = {
    "usual": (
        ScriptedReply(
            reasoning="Which city? Oslo \u2014 na\u00efve \U0001f914.",
            text=_TEXT,
            tool_calls=[_CALL],
        ),
        _ANSWER,
    ),
    "without reasoning": (ScriptedReply(text=_TEXT, tool_calls=[_CALL]), _ANSWER),
    "sections": (  # as DSPy asks for them
        ScriptedReply(
            reasoning="Which city? Oslo.",
            text="[[ ## answer ## ]]\nIt rains in Oslo, 7 \u00b0C.\n\n[[ ## completed ## ]]",
        ),
    ),
}
"""The replies of a row, by the name that it gives them."""

LONG = ScriptedReply(text=[f"word{number} " for number in range(2000)])
"""The reply that is cancelled."""
