"""What the tests of adapters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

try:
    import certifi
except ImportError:  # in an environment without an HTTP client
    certifi = None  # type: ignore[assignment]


@pytest.fixture(autouse=True, scope="module")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have each HTTP client read one certificate rather than the 100 and more of certifi.

    Those take 20 ms a client, of which tests make thousands. They speak to servers on loopback.
    """
    with pytest.MonkeyPatch.context() as patch:
        if certifi is not None:
            end = "-----END CERTIFICATE-----\n"
            file = tmp_path_factory.mktemp("authority") / "one.pem"
            file.write_text(certifi.contents().partition(end)[0] + end, "utf-8")
            patch.setenv("SSL_CERT_FILE", str(file))
        yield
