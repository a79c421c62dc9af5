"""The prefix of every setting's name in the environment."""

from typing import Final

PREFIX: Final = "AUTHTALLY_"
