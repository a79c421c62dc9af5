"""The statements of the products' documents: one row each, which is a test and a line of `docs/api/documents.md`."""
