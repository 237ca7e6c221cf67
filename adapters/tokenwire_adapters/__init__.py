"""Adapters between tokenwire and other packages, one module for each.

Import the module you need, for example ``tokenwire_adapters.openai``. Importing this package alone
imports no third party; a module whose package is missing raises an ``ImportError`` that names the
extra to install.
"""
