"""The suite that every backend passes: the promises, through the public interface.

Plain functions with assertions; any runner that collects ``test_*`` methods of classes runs them.
Each test uses channels of its own, so one server may serve all of them.
"""

from __future__ import annotations

from tokenwire.testing._reading import ReadingContract
from tokenwire.testing._talking import TalkingContract
from tokenwire.testing._trouble import TroubleContract
from tokenwire.testing._writing import WritingContract

__all__ = ["BackendContract"]


class BackendContract(WritingContract, ReadingContract, TalkingContract, TroubleContract):
    """Subclass it, give it a `place`, and let your test runner collect the subclass."""
