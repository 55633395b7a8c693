// Package errors stands in for the package of the same name.
package errors

// TencentCloudSDKError is the type that callers tell apart.
type TencentCloudSDKError struct{}

func (*TencentCloudSDKError) Error() string {
	return "this build has no client for this cloud"
}
