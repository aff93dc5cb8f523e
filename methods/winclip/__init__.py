"""WinCLIP: windows of an image, read by CLIP, against prompts that name its category and a few references."""
