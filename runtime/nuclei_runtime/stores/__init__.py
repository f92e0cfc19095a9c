"""What a user names by URL: object stores and servers."""
