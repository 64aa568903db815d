from cloister.client import Client as Client
from cloister.client import SyncClient as SyncClient

__version__: str
