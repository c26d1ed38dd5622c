"""What starts runs by itself, and what keeps that from doing harm."""
