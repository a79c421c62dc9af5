"""Reads and deletes of the OTP token inventory."""
