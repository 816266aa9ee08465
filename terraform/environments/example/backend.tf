# Remote state in S3. Bucket and region are in backend.hcl, which is yours:
#   terraform init -backend-config=backend.hcl
# A lock file in the bucket keeps two people from applying at once; no other service is needed for that.
terraform {
  backend "s3" {
    key          = "muster/example.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
