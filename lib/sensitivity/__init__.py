"""Asks the paper's question of your own images: how far does robust accuracy move if they change a little?

study = sensitivity.examine("photographs/", changes=["gamma-0.6", "jpeg-30"], minutes=20)
sensitivity.judge(study).sentence
"""

from lib.sensitivity import page
from lib.sensitivity.command import examine, list_changes, recorded, write_digits
from lib.sensitivity.verdict import judge

__all__ = ["examine", "judge", "list_changes", "page", "recorded", "write_digits"]
