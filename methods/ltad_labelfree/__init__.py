"""LTAD without the categories of test images: each is scored as the category that its code is most like."""
