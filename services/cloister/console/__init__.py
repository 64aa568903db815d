"""The web console: the mesh as it is, a quote field by field, receipts checked in the browser. It changes nothing."""
