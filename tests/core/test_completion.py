"""Completion offers public names."""

from tokenwire import MemoryBackend, Sink


def test_completion_offers_public_names():
    with Sink(MemoryBackend()) as sink, sink.respond("c") as response, sink.watch("c") as watch:
        for offered in (sink, response, watch, response.tool_call("f", "c1")):
            names = dir(offered)
            private = [name for name in names if name.startswith("_") and name[:2] != "__"]
            assert not private
            assert {"__class__", "__init__"} <= set(names)
            for name in names:
                getattr(offered, name)
        assert {"respond", "watch", "history", "delete_user", "backend"} <= set(dir(sink))
        assert {"write", "finish", "id", "state"} <= set(dir(response))
        assert {"open", "close", "cursor"} <= set(dir(watch))
