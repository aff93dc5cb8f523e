"""What commands print: rich tables for people, one JSON object for programs."""
