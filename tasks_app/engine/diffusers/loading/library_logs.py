"""Redirection of the libraries' logs to the process's log; import it before diffusers to include import messages."""

import logging

import torch  # noqa: F401 - gives its loggers handlers of their own
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

for _library in (diffusers_logging, transformers_logging):
    # Progress bars need a terminal, which a worker's log is not.
    _library.disable_progress_bar()
    _library.disable_default_handler()
    _library.enable_propagation()

for _name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "torch"]:
    _logger = logging.getLogger(_name)
    _logger.handlers.clear()
    _logger.propagate = True
