"""What is served to watchers over HTTP, one package a protocol."""
