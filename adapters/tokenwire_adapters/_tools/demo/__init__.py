"""``tokenwire demo``: an ordinary agent, a page that watches it, and nothing else to install."""
