"""The release of a key: who asks, whether that is believed, what is on offer, how often."""
