"""The way of what is read: from the backend to watches."""
