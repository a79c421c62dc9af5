"""What a product's clients speak. Adding one is a file here and a line in api/app.py."""
