"""The diffusers engine."""

import os

# diffusers reads this at import; it disables code from model repositories.
os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
# transformers reads this at import; its warnings concern features that are not used here.
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
