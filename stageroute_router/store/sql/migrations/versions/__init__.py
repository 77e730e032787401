"""One module per revision of the schema, named by its number. Never changed once released."""
