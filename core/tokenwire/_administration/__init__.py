"""Administration of channels: deletion, lists, retention, export and import."""
