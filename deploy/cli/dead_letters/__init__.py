"""`authtally dead-letters`: list the records that could not be counted, and resend them after the cause is fixed."""

from deploy.cli.dead_letters.listing import show as show
from deploy.cli.dead_letters.resending import resend as resend
