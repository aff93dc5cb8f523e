"""How a method is found, configured and examined."""
