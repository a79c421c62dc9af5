"""HTTP independent of products: errors, problem documents, server, Expect, request ids, tracing, bounded reads."""
