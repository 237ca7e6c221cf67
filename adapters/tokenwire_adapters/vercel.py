"""The AI SDK's UI message stream: pages made with ``useChat`` on a Python agent.

`VercelEncoder` is what ``?format=vercel`` of the gateway uses. See docs/ui-protocols.md.

The protocol: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol (data stream protocol, ``v1``), as
the packages ``ai`` 6 and 7 read it.
"""

from __future__ import annotations

from tokenwire_adapters._ui.vercel_encoder import VercelEncoder

__all__ = ["VercelEncoder"]
