"""How long verifying takes beside its rivals: ``python -m benchmarks.bench_verify [--keep FILE]``.

Writes an 8.1 GB Q8_0 of the shape of DeepSeek-R1-Distill-Qwen-7B with real bytes, and 17,850 rows of
data, and removes both. Bars: verifying without a hash under a tenth of gguf.GGUFReader; hash and all
checks within 1.25 times ``openssl dgst -sha256``; reading and judging the rows within twice json.loads.
"""
