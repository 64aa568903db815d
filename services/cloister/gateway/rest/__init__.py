"""HTTPS REST on the gateway: Open Inference Protocol v2, its binary extension, and the older predict forms."""
