"""The Hugging Face hub, where it answers."""

import os
import urllib.request


def give_up_soon(seconds: float = 5) -> None:
    """Where the hub does not answer, look only at what is on this machine, rather than try again and again.

    To be called before any of the Hugging Face packages is imported, for that is when they read the setting.
    """
    if "HF_HUB_OFFLINE" in os.environ:
        return
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(hub, method="HEAD"), timeout=seconds).close()
    except (OSError, ValueError):
        os.environ["HF_HUB_OFFLINE"] = "1"
