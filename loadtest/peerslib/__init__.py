"""The parts of loadtest/peers: processes, the proxies, the loads, the cases, the report."""
