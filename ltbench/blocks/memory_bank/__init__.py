"""Patches kept, thinned out, weighed and searched: what PatchCore and its successors share."""
