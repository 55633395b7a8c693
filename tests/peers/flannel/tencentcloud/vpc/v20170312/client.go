// Package vpc stands in for the package of the same name, which no module proxy serves. It has the
// types that flannel's backend tencent-vpc names; every call fails.
package vpc

import "errors"

var errAbsent = errors.New("this build has no client for this cloud")

type Client struct{}

type Filter struct {
	Name   *string
	Values []*string
}

type Route struct {
	RouteId              *uint64
	DestinationCidrBlock *string
	GatewayType          *string
	GatewayId            *string
	RouteType            *string
	Enabled              *bool
}

type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

type DescribeRouteTablesRequest struct{ Filters []*Filter }

type DescribeRouteTablesResponse struct {
	Response struct{ RouteTableSet []*RouteTable }
}

type CreateRoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

type DeleteRoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

type Response struct{}

func NewClientWithSecretId(_, _, _ string) (*Client, error) { return &Client{}, nil }

func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest {
	return &DescribeRouteTablesRequest{}
}

func NewCreateRoutesRequest() *CreateRoutesRequest { return &CreateRoutesRequest{} }

func NewDeleteRoutesRequest() *DeleteRoutesRequest { return &DeleteRoutesRequest{} }

func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errAbsent
}

func (*Client) CreateRoutes(*CreateRoutesRequest) (*Response, error) { return nil, errAbsent }

func (*Client) DeleteRoutes(*DeleteRoutesRequest) (*Response, error) { return nil, errAbsent }
