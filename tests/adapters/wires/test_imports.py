"""The readers of wires need no SDK and no HTTP client."""

import subprocess
import sys

ABSENT = (
    "aiohttp", "anthropic", "boto3", "botocore", "cohere", "google.genai", "httpx", "httpx2",
    "ollama", "openai", "pydantic", "requests", "urllib3", "brotli", "zstandard",
)  # fmt: skip


def test_wires_need_nothing_else() -> None:
    code = (
        "import sys\n"
        f"for name in {ABSENT!r}: sys.modules[name] = None\n"
        "import tokenwire\n"
        "from tokenwire.instrument import Options\n"
        "from tokenwire_adapters._agents.wires.recognition import HttpRequest, recognise\n"
        "from tokenwire_adapters._agents.wires.reply import ReplyReader\n"
        "sink = tokenwire.open_sink('memory://', strict=True)\n"
        "request = HttpRequest('POST', '/v1/messages', {}, b'{\"messages\": []}')\n"
        "wire, body = recognise(request)\n"
        "reader = ReplyReader(wire, wire.recorder(Options(sink, 'c'), body), 200, {})\n"
        'reader.feed(b\'{"content": [{"type": "text", "text": "Hello"}], "stop_reason": "x"}\')\n'
        "reader.end()\n"
        "print(sink.history('c').items[0].text)\n"
        "sink.close()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.stderr) == ("Hello", "")
