"""The HTML report: one page that holds everything and asks the network for nothing."""
