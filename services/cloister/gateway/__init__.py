"""The gateway: moves requests, sealed or plain, to attested workers; it reads no tensor and can open no seal."""
