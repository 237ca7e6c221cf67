"""AG-UI 1.0: clients such as ``@ag-ui/client`` and CopilotKit on a Python agent.

`AgUiEncoder` is what ``?format=ag-ui`` of the gateway uses. See docs/ui-protocols.md.

The protocol: https://docs.ag-ui.com, version 1.0.
"""

from __future__ import annotations

from tokenwire_adapters._ui.ag_ui_encoder import AgUiEncoder

__all__ = ["AgUiEncoder"]
