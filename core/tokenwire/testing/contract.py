"""The test suite that every backend passes: the promises, through the public interface.

Plain functions with assertions; any runner that collects ``test_*`` methods of classes runs them.
Each test uses channels of its own, so one server may serve all of them.
"""

from __future__ import annotations

from tokenwire.testing._administration import AdministrationContract
from tokenwire.testing._faults import FaultsContract
from tokenwire.testing._reading import ReadingContract
from tokenwire.testing._requests import RequestsContract
from tokenwire.testing._writing import WritingContract

__all__ = ["BackendContract"]


class BackendContract(
    WritingContract, ReadingContract, RequestsContract, FaultsContract, AdministrationContract
):
    """Subclass it, define `place`, and let your test runner collect the subclass."""
