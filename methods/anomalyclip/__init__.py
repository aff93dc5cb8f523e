"""AnomalyCLIP: prompts that name no object, learnt on the annotated images of another dataset."""
