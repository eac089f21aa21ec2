"""All networks that segment: backbone, feature pyramid, projector, prototypes, fine-tuned head."""
