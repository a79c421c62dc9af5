"""The command-line program `authtally`. No other package imports it."""
