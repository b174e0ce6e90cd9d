"""Names and shapes of the objects in the API."""
