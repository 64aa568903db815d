"""Those who countersign the log: what they have seen of it, who may write to it, and going on after a loss."""
