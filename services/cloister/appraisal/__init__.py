"""What a Verifier believes: DCAP evidence, endorsements and an appraisal policy in, an Appraisal out.

Pure: no clock, no files, no network; the same arguments give the same answer. Start at `appraise.appraise`.
"""
