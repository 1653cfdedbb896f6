"""Download, verify and extract archives."""
