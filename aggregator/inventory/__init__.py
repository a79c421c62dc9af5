"""The OTP token inventory: its fold, its state, and how Redis holds it."""
