"""The command `authtally`: every command and what it runs. Nothing else imports it."""
