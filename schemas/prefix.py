"""How every setting's name begins in the environment."""

from typing import Final

PREFIX: Final = "AUTHTALLY_"
