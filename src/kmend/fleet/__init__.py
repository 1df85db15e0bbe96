"""The server: decides what each host should run; REST API. It holds no keys and cannot sign."""
