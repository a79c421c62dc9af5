"""HTTP without any product: errors, server, Expect, request ids, tracing, bounded reads."""
