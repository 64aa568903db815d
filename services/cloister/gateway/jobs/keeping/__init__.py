"""Jobs in Redis, which is believed in nothing: `redis_store` puts together what the other modules do."""
