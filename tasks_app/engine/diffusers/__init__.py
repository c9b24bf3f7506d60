"""The diffusers engine."""

import os

# Read by diffusers when it is imported: code that a repository brings is never run.
os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
# Read by transformers when it is imported, which warns of what is not used here.
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
