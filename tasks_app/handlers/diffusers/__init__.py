"""The diffusers engine."""

import os

# Read by diffusers when it is imported: code that a repository brings is never run.
os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
